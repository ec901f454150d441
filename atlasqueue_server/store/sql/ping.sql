-- The database answers; and whether it takes writes, which a standby does not.
select current_setting('transaction_read_only') = 'off'
