"""From a request to a published slate: eligibility, signals, candidates, rules, routes and records."""
