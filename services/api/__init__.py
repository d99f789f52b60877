"""The API: speaks the clients' dialects over HTTP and the engine's wire over a unix socket.

It renders the model's chat template, splits thinking from answer and reports the state of the appliance. It knows nothing of
llama_cpp, of the page, or of how a model is prepared beyond manifest.json and the progress file.
"""
