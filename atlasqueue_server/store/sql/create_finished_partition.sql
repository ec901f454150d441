-- A day of finished. name, from and to are built by the server from a date, never from input.
create table if not exists atlasqueue.{name} partition of atlasqueue.finished
for values from ({lower}) to ({upper})
