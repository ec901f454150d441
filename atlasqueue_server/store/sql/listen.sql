-- Hear the other servers.
listen atlasqueue
