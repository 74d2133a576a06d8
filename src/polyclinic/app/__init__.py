"""Settings, wiring, web, worker, command line and demo: the only place that builds adapters."""
