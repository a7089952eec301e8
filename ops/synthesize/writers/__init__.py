"""Writers of public formats: OpenScene logs, nuPlan maps, nuScenes data sets."""
