"""Plants as YAML; `simulators.scenario` reads them."""
