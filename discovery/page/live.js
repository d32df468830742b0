// What happens now: the event stream, with the state of the connection. The browser reconnects by itself.

export function follow({ onHello, onCard, onDeleted, onReset, onState }) {
  const source = new EventSource("/events");
  const data = (event) => JSON.parse(event.data);
  source.addEventListener("open", () => onState("live"));
  source.addEventListener("error", () => {
    onState("waiting");
    // A refused stream (too many clients) is not tried again by the browser.
    if (source.readyState === EventSource.CLOSED) {
      setTimeout(() => follow({ onHello, onCard, onDeleted, onReset, onState }), 5000);
    }
  });
  source.addEventListener("hello", (event) => onHello(data(event)));
  source.addEventListener("pin", (event) => onCard(data(event), "pin"));
  source.addEventListener("dots", (event) => onCard(data(event), "dots"));
  source.addEventListener("deleted", (event) => onDeleted(data(event).pin_id));
  source.addEventListener("reset", () => onReset());
}
