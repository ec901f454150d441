"""The OpenAPI document of the REST side, written from the contract: `make generate`, `make verify`."""
