"""What every measurement needs: processes, counters, interleaved rounds, statistics, the document."""
