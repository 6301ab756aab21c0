"""The link between driver and engine, and the preview: messages, credits, resending, security."""
