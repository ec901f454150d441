-- Whether the database was ever migrated.
select to_regclass('atlasqueue.migrations') is not null
