"""Broken servers on purpose: for each variant a directory with the SQL files that differ.

They show that the checker and the labs catch what they are there to catch. A test, a lab or `make chaos BROKEN=fence` lays
such a directory over the real statements; the product has no option for it.

    fence           complete and fail forget to compare the fence        I2
    fence_per_job   fences are counted for each job, not for all         I3
    grace           after an outage nobody's lease is extended           I9
    no_crash_cap    a job may crash its workers without end          (no invariant: a lab counts)
    no_jitter       backoff is its ceiling, not drawn below it       (no invariant: a lab counts)
    no_watermark    lease looks from the beginning of the queue      (no invariant: a lab measures)
    term            expire and promote forget to check the term          I8
    vanish          expire takes leases and puts them nowhere            I1
"""
