-- A migration was applied.
insert into atlasqueue.migrations (version, name) values (%(version)s, %(name)s)
