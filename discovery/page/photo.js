// A picture from a person: upright, and no larger than what the models can see, so that it can be sent at every move.

const SIDE = 1600;
const QUALITY = 0.92;

// { blob, url, aspect }. What the browser cannot read is handed on as it is; the API says what is wrong with it.
export async function prepared(file) {
  let image;
  try {
    image = await createImageBitmap(file);
  } catch {
    return { blob: file, url: null, aspect: 1 };
  }
  const { width, height } = image;
  const scale = Math.min(1, SIDE / Math.max(width, height));
  const blob = await jpeg(image, Math.max(1, Math.round(width * scale)), Math.max(1, Math.round(height * scale)));
  image.close();
  return { blob, url: URL.createObjectURL(blob), aspect: width / height };
}

// Draws an image or a video's present frame.
export function jpeg(source, width, height) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [width, height];
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff";
  context.fillRect(0, 0, width, height);
  context.drawImage(source, 0, 0, width, height);
  return new Promise((done) => canvas.toBlob(done, "image/jpeg", QUALITY));
}

export const pictureOf = (files) => [...(files ?? [])].find((file) => file.type.startsWith("image/")) ?? null;
