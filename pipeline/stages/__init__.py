"""The stages of the engine, one a file: pixel_pass, preview, pca. See docs/adding-a-stage.md."""
