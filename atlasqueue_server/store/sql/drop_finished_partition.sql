-- prune: a day of finished whose bodies are gone. The name is built by the server from a date.
drop table if exists atlasqueue.{name}
