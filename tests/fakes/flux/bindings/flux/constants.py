"""The constants that the Flux executor uses, with their values in Flux 0.88."""

FLUX_POLLIN = 1
FLUX_JOB_STATE_ACTIVE = 62
