// Search in pages that are opened as files: browsers refuse a worker there, so its script runs in a hidden frame.
// The name of this file is what tells the theme's offline plugin that it need not fetch a script for that.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(address) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.body.append(frame);
      const inside = frame.contentWindow;
      const waiting = [];
      const load = (url) => new Promise((resolve, reject) => {
        const script = inside.document.createElement("script");
        script.src = url;
        script.onload = resolve;
        script.onerror = reject;
        inside.document.head.append(script);
      });
      this.deliver = (message) => waiting.push(message);
      this.terminate = () => frame.remove();
      inside.postMessage = (message) => this.dispatchEvent(new MessageEvent("message", { data: message }));
      inside.importScripts = (...urls) => urls.reduce((before, url) => before.then(() => load(url)), Promise.resolve());
      load(address).then(() => {
        this.deliver = (message) => inside.dispatchEvent(new inside.MessageEvent("message", { data: message }));
        waiting.forEach((message) => this.deliver(message));
      });
    }

    postMessage(message) {
      this.deliver(message);
    }
  };
}
