package qupath.lib.common

class GeneralTools {
    static String stripExtension(String path) { path.replaceFirst(/\.[^.]+$/, "") }
}
