// Turn every dial of a page from data into a control. A dial whose data cannot be read stays hidden: the static figure
// beside it says the same at one position.
import { readData } from "./data";
import { mount } from "./dial";

function start(): void {
  document.querySelectorAll<HTMLElement>(".dial[hidden]").forEach((box, number) => {
    const source = box.querySelector('script[type="application/json"]');
    try {
      mount(box, readData(source?.textContent ?? ""), `dial-${number + 1}`);
    } catch (error) {
      box.hidden = true;
      console.error(error);
    }
  });
}

if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
else start();
