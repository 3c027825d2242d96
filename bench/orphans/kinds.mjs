/** What a tool does when it is told to stop: ends at once; cleans up for 120 ms; goes on as if nothing had been said. */
export const KINDS = ['coop', 'cleanup', 'deaf'];
