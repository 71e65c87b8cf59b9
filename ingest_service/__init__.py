"""The ingestion service: takes batches from agents, keeps them, and shows what they say."""
