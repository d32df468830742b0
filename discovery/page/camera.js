// The camera, from when a person asks for it until the picture is taken or the camera is put away.

import { h } from "./dom.js";
import { jpeg } from "./photo.js";

const REFUSED = {
  NotAllowedError: "The browser was not allowed to use the camera. Allow it beside the address, or upload a picture.",
  NotFoundError: "No camera was found. Upload a picture instead.",
  NotReadableError: "The camera is in use elsewhere. Close what uses it, or upload a picture.",
};

export const hasCamera = () => Boolean(navigator.mediaDevices?.getUserMedia);

export class Camera {
  // onTaken(blob), onCancel(), onRefused(text).
  constructor({ onTaken, onCancel, onRefused }) {
    Object.assign(this, { onTaken, onRefused, stream: null, asked: 0 });
    this.video = h("video", { autoplay: true, playsinline: true, "aria-label": "What the camera sees" });
    this.video.muted = true;
    this.node = h(
      "div",
      { class: "camera" },
      this.video,
      h(
        "div",
        { class: "actions" },
        h("button", { type: "button", class: "button primary", onclick: () => this.take() }, "Take the picture"),
        h("button", { type: "button", class: "button", onclick: onCancel }, "Cancel"),
      ),
    );
  }

  async start() {
    const mine = ++this.asked;
    try {
      const stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment", width: { ideal: 1600 } } });
      if (mine !== this.asked) {
        end(stream);
        return;
      }
      this.stream = stream;
      this.video.srcObject = stream;
    } catch (error) {
      if (mine === this.asked) this.onRefused(REFUSED[error.name] ?? `The camera cannot be used: ${error.message}`);
    }
  }

  async take() {
    const { videoWidth: width, videoHeight: height } = this.video;
    if (!width) return;
    const blob = await jpeg(this.video, width, height);
    this.stop();
    this.onTaken(blob);
  }

  stop() {
    this.asked += 1;
    end(this.stream);
    this.stream = this.video.srcObject = null;
  }
}

function end(stream) {
  for (const track of stream?.getTracks() ?? []) track.stop();
}
