"use strict";
// Loads what volumes.json names into NiiVue and joins it with the few controls of the page.
(async () => {
  const state = document.getElementById("state");
  try {
    const volumes = await (await fetch("volumes.json")).json();
    // as on our pages and in clinical viewers: the patient's right on the left, anterior on the left of sagittal slices
    const viewer = new niivue.Niivue({ backColor: [0.07, 0.09, 0.11, 1], show3Dcrosshair: true, crosshairWidth: 0.2,
      multiplanarShowRender: 1, logLevel: "error", isRadiologicalConvention: true, sagittalNoseLeft: true,
      isOrientationTextVisible: volumes[0].sides });
    viewer.onLocationChange = (place) => { document.getElementById("place").textContent = place.string; };
    await viewer.attachToCanvas(document.getElementById("canvas"));
    await viewer.loadVolumes(volumes.map((volume) => ({
      url: volume.file, name: volume.file, colormap: "gray", opacity: volume.labels ? 0.5 : 1,
    })));
    volumes.forEach((volume, index) => {
      if (volume.labels) viewer.volumes[index].setColormapLabel(volume.labels);
    });
    viewer.setSliceType(viewer.sliceTypeMultiplanar);
    viewer.updateGLVolume();
    const shown = volumes.map(() => true);
    const opacity = document.getElementById("opacity");
    const apply = () => volumes.forEach((volume, index) => {
      if (volume.labels) viewer.setOpacity(index, shown[index] ? Number(opacity.value) : 0);
    });
    opacity.addEventListener("input", apply);
    document.getElementById("slices").addEventListener("change", (event) => viewer.setSliceType(Number(event.target.value)));
    volumes.forEach((volume, index) => {
      if (!volume.labels) return;
      const label = document.createElement("label"), box = document.createElement("input");
      box.type = "checkbox";
      box.checked = true;
      box.addEventListener("change", () => { shown[index] = box.checked; apply(); });
      label.append(box, ` ${volume.title}`);
      document.getElementById("masks").append(label);
    });
    state.textContent = "";
    document.body.dataset.loaded = String(viewer.volumes.length);
  } catch (error) {
    state.textContent = `It cannot be shown: ${error.message ?? error}`;
  }
})();
