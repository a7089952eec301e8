"""Writers of public log formats: OpenScene, nuPlan maps, nuScenes."""
