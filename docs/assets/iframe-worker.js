// Search from a disk: browsers refuse workers on file://, so there the worker's script runs in a hidden frame.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.body.appendChild(frame);
      this.inside = frame.contentWindow;
      this.inside.document.open();
      this.inside.document.write(
        "<script>" +
          "var outside = [];" +
          "postMessage = function (data) { parent.dispatchEvent(new MessageEvent('framed', { data: data })) };" +
          "importScripts = function () {" +
          "  return Promise.all([].map.call(arguments, function (src) { return new Promise(function (done) {" +
          "    var s = document.createElement('script'); s.src = src; s.onload = done; document.body.appendChild(s) }) })) };" +
          "</scr" + "ipt><body><script src='" + url + "'></scr" + "ipt></body>"
      );
      this.inside.document.close();
      window.addEventListener("framed", (event) => this.dispatchEvent(new MessageEvent("message", { data: event.data })));
    }
    postMessage(data) {
      const send = () => this.inside.dispatchEvent(new MessageEvent("message", { data }));
      this.inside.document.readyState === "complete" ? send() : this.inside.addEventListener("load", send, { once: true });
    }
    terminate() {}
  };
}
