"""The cameras of the synthetic world: ground texture, meshes, shading, rendering."""
