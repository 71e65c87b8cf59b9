"""Who may do what: users, sessions, rates, the audit log. Tokens and roles are in `ingest_service.auth`."""
