"""The edge agent: reads machine sources, keeps everything on disk until it is safely delivered, streams it on."""
