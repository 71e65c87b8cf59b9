"""What the service knows besides samples: tokens, agents, declarations, quarantine, losses."""
