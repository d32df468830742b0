// What happens now: the event stream, with the state of the connection. The browser reconnects by itself; a stream that
// was refused is asked for again here. A page that stays hidden stops listening: browsers open few connections to a host.

const AGAIN_MS = 5000;
const HIDDEN_MS = 60_000;

// onHello(data, anew): `anew` when something may have been missed since the hello before.
export function follow(handlers) {
  let source = null;
  let timer = null;
  let heard = false;
  const stop = () => {
    source?.close();
    source = null;
  };
  const start = () => {
    stop();
    let anew = heard;
    const onHello = (data) => {
      handlers.onHello(data, anew);
      heard = true;
      anew = false;
    };
    source = listen({ ...handlers, onHello }, () => (timer = setTimeout(start, AGAIN_MS)));
  };
  document.addEventListener("visibilitychange", () => {
    clearTimeout(timer);
    if (document.hidden) timer = setTimeout(stop, HIDDEN_MS);
    else if (source?.readyState !== EventSource.OPEN) start();
  });
  start();
}

function listen({ onHello, onPin, onDots, onDeleted, onSize, onReset, onState }, onRefused) {
  const source = new EventSource("/events");
  const data = (event) => JSON.parse(event.data);
  source.addEventListener("open", () => onState("live"));
  source.addEventListener("error", () => {
    onState("waiting");
    if (source.readyState === EventSource.CLOSED) onRefused();
  });
  source.addEventListener("hello", (event) => onHello(data(event)));
  source.addEventListener("pin", (event) => onPin(data(event)));
  source.addEventListener("dots", (event) => onDots(data(event)));
  source.addEventListener("deleted", (event) => onDeleted(data(event).pin_id));
  source.addEventListener("size", (event) => onSize(data(event).pins));
  source.addEventListener("reset", () => onReset());
  return source;
}
