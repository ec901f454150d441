"""The AtlasQueue worker: runs handlers for leased jobs. Built on the SDK only."""
