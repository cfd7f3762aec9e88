"use strict";
const picture = JSON.parse(document.getElementById("picture").textContent);
document.getElementById("page").textContent = picture.mesh;
