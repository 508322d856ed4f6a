package qupath.fx.dialogs

class FileChoosers {
    static File promptForFile(String title, Object... filters) { null }
    static File promptToSaveFile(String title, File suggested, Object... filters) { null }
    static createExtensionFilter(String description, String... extensions) { null }
}
