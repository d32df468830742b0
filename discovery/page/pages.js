// The pages behind the grid: the newest one, and older ones as a person comes to the end.

import * as api from "./api.js";

const PAGE = 60;
const WALK = 200;

export class Pages {
  constructor(grid) {
    Object.assign(this, { grid, next: null, busy: false });
  }

  get more() {
    return this.next !== null || this.grid.trimmed;
  }

  // Whether a card belongs among those that are here, and not behind them, where older pins wait to be asked for.
  reach(card) {
    const { last } = this.grid;
    return !this.more || !last || Number(card.pin.recorded_at) >= Number(last.pin.recorded_at);
  }

  // Looks at the newest page, and brings the grid up to it; `anew` forgets what lies behind it.
  async newest(anew) {
    const alone = anew || this.grid.size <= PAGE;
    const page = await this.grid.renew(() => api.newest(PAGE), anew);
    if (alone || page.next === undefined) this.next = page.next ?? null;
  }

  // Puts one more page behind the last card. Where the end was let go, its place is looked for from the top.
  async older() {
    if (this.busy || !this.more) return;
    this.busy = true;
    try {
      const page = this.grid.trimmed ? await this.behind(this.grid.last) : await api.newest(PAGE, this.next);
      this.grid.trimmed = false;
      this.next = page.next ?? null;
      this.grid.append(page.pins);
    } finally {
      this.busy = false;
    }
  }

  async behind(last) {
    let page = await api.newest(WALK);
    while (page.next && Number(page.pins.at(-1).pin.recorded_at) >= Number(last.pin.recorded_at)) page = await api.newest(WALK, page.next);
    return page;
  }
}
