// The state of a live connection: when it counts as stale, and when to try again. Pure.

/** Without a message for this long the page says that it is stale; the server beats every 2 s. */
export const STALE_MS = 4500;
const FIRST_RETRY_MS = 500;
const LAST_RETRY_MS = 15_000;

/** Milliseconds before try number `attempt` (0-based): doubling, capped, with jitter so that browsers spread. */
export function retryDelay_ms(attempt, random = Math.random) {
  const ceiling = Math.min(LAST_RETRY_MS, FIRST_RETRY_MS * 2 ** attempt);
  return ceiling / 2 + (ceiling / 2) * random();
}

/** "live", "stale" or "connecting" (not yet connected, and not yet long enough to worry anyone). */
export function linkState(last_message_ms, started_ms, now_ms) {
  if (now_ms - (last_message_ms ?? started_ms) > STALE_MS) return "stale";
  return last_message_ms === null ? "connecting" : "live";
}

/**
 * Collects calls and runs them at once if the last run began `pause_ms` ago and is over, else once, later. A run may
 * return a promise: it is over when that is settled, and what is called for meanwhile is run after it.
 */
export class Throttle {
  constructor(run, pause_ms, clock = { now: () => performance.now(), later: (f, ms) => setTimeout(f, ms) }) {
    this.run = run;
    this.pause_ms = pause_ms;
    this.clock = clock;
    this.last_ms = -Infinity;
    this.waiting = false;
    this.running = false;
  }

  call() {
    if (this.waiting) return;
    const wait_ms = this.last_ms + this.pause_ms - this.clock.now();
    if (wait_ms <= 0 && !this.running) {
      this.start();
      return;
    }
    this.waiting = true;
    this.clock.later(
      () => {
        this.waiting = false;
        this.call();
      },
      wait_ms > 0 ? wait_ms : this.pause_ms,
    );
  }

  start() {
    this.last_ms = this.clock.now();
    const over = this.run();
    if (!over?.finally) return;
    this.running = true;
    over.finally(() => {
      this.running = false;
    });
  }
}
