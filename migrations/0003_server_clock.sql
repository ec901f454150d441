-- How far a server's clock is ahead of the database's. Nothing is decided by it: it tells an operator whose logs
-- and traces lie. Null: told by a server that is older than this column.
alter table atlasqueue.servers add column clock_offset_ms bigint;
