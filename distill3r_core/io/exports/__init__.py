"""Writers of clouds, cameras and maps, one file per format."""
