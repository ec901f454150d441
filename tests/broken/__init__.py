"""Broken servers on purpose: for each variant a directory with the SQL files that differ.

They show that the checker catches what it is there to catch. A test or `make chaos BROKEN=fence` lays such
a directory over the real statements; the product has no option for it.

    fence           complete and fail forget to compare the fence        I2
    fence_per_job   fences are counted for each job, not for all         I3
    grace           after an outage nobody's lease is extended           I9
    term            expire and promote forget to check the term          I8
    vanish          expire takes leases and puts them nowhere            I1
"""
