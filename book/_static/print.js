// Paper is white: a page is printed in the light theme, whichever one is read.
(() => {
  const page = document.documentElement.dataset;
  let read;
  addEventListener("beforeprint", () => {
    read = page.theme;
    page.theme = "light";
  });
  addEventListener("afterprint", () => {
    page.theme = read;
  });
})();
