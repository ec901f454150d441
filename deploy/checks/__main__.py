"""`make verify-deploy`: runs every check and says what is wrong; a missing tool is wrong as well."""

from __future__ import annotations

import sys

from deploy.checks import live, static


def main() -> int:
    """Runs all; 1 when one of them found something."""
    failed = 0
    for check in [*static.checks(), live.check_metrics]:
        name = check.__name__.removeprefix("check_").replace("_", " ")
        try:
            problems = check()
        except static.Missing as missing:
            problems = [str(missing)]
        print(f"{'FAILED' if problems else 'ok':8}{name}: {(check.__doc__ or '').splitlines()[0]}")
        for problem in problems:
            print(f"          {problem}")
        failed += bool(problems)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
