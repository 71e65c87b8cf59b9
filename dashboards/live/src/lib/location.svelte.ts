import { parseRoute, type Route } from "./router.ts";

class Place {
  route = $state.raw<Route>(parseRoute(window.location.hash));

  constructor() {
    window.addEventListener("hashchange", () => {
      this.route = parseRoute(window.location.hash);
    });
  }

  /** Note a choice in the address, for reload and sharing, without a step in the history. */
  note(href: string): void {
    if (window.location.hash === href) return;
    window.history.replaceState(window.history.state, "", href);
    this.route = parseRoute(href);
  }
}

export const place = new Place();
