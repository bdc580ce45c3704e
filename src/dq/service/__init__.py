"""Jobs that a serving master keeps: submitted, looked at and fetched by any client, at any time."""
