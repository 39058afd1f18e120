// Entry of every page.

import { startAges } from "./ages.js";
import { startConfirm } from "./confirm.js";
import { startKeepOpen } from "./keep_open.js";
import { startKeys } from "./keys.js";
import { startLive } from "./live.js";
import { startMenus } from "./menus.js";
import { startPalette } from "./palette.js";
import { startTables } from "./table.js";
import { startTheme } from "./theme.js";
import { startToasts } from "./toasts.js";

startTheme();
startMenus();
startToasts();
startPalette();
startKeys();
startTables();
startConfirm();
startKeepOpen();
startAges();
startLive();
