-- The database answers; and what time it is there.
select clock_timestamp()
