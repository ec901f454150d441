-- A setting for the rest of this transaction.
select set_config(%(name)s, %(setting)s, true)
