"""What the API is sent and answers, one file for each thing: models that OpenAPI describes."""
