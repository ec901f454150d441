-- A server asks twice a second which of the jobs that its workers hold were cancelled. Few ever are, so
-- this index is nearly empty and costs a lease nothing.
create index leased_cancel on atlasqueue.leased (session_id) where cancel_requested;
