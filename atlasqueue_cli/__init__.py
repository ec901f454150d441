"""The command line `atlasqueue`: what a person or a shell script does with a queue.

    main        assembles the commands, runs them, turns errors into a line and an exit code
    commands/   one module a theme: parameters and help; the work is imported when it is run
    options     the options that every command has: output, servers, TLS, patience
    help        plain help in sections, and what is wrong with a value
    errors      exit codes, and what each error of the SDK means to a person
    connection  calls that tell when no server answers
    output      JSON lines, tables, bytes
    views       rows and cards of jobs, queues, workers
    times       durations and times as people write them
    lines       JSON lines in: cut, bounded, each judged by itself
    newjobs     a line or the flags, made a job
    runs        ids of lines, made from the run and the line's number
    bulk        many lines to the server, in order, resumable
    progress    how far it has come, on standard error
    jobs, watching, cancel_many, enqueuing, queues, dead_letters, cluster, top
                what the commands do

Built on the SDK `atlasqueue`, typer and rich; knows nothing of the server's code.
"""
