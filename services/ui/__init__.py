"""The page and the terminal: what people see. Talks to the API over HTTP and knows nothing of models or engines."""
