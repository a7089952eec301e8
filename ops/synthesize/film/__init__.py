"""The camera of the synthetic world: meshes, shading and JPEG frames."""
