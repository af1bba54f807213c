"""Where things are kept. Each backend fits `core.ports` and knows neither the others nor who calls."""
