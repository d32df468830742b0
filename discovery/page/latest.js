// Questions about something that moves. One is under way at a time; the newest comes next and its answer wins.
//
// While it moves, a question under way keeps GRACE_MS to be answered, so that answers come at all; then it is aborted.
// A question that does not wait aborts at once what is under way.

const GRACE_MS = 400;

export class Latest {
  constructor() {
    this.next = null;
    this.timer = null;
    this.current = null; // { aborter, since }
  }

  // `run` takes an AbortSignal. It is called after about `wait` ms, unless a newer one takes its place.
  ask(run, wait = 0) {
    this.next = run;
    if (wait > 0) {
      this.timer ??= setTimeout(() => this.due(), wait);
      return;
    }
    this.current?.aborter.abort();
    this.send();
  }

  cancel() {
    clearTimeout(this.timer);
    this.timer = this.next = null;
    this.current?.aborter.abort();
    this.current = null;
  }

  due() {
    this.timer = null;
    if (!this.current) {
      this.send();
      return;
    }
    const left = this.current.since + GRACE_MS - performance.now();
    if (left > 0) this.timer = setTimeout(() => this.due(), left);
    else {
      this.current.aborter.abort();
      this.send();
    }
  }

  async send() {
    clearTimeout(this.timer);
    this.timer = null;
    const run = this.next;
    if (!run) return;
    this.next = null;
    const mine = { aborter: new AbortController(), since: performance.now() };
    this.current = mine;
    await run(mine.aborter.signal);
    if (this.current !== mine) return;
    this.current = null;
    if (this.next) this.send();
  }
}
