package qupath.lib.io

class PathIO {
    enum GeoJsonExportOptions { FEATURE_COLLECTION }

    static List readObjects(File file) { throw new UnsupportedOperationException() }
    static void exportObjectsAsGeoJSON(File file, Collection objects, GeoJsonExportOptions... options) {
        throw new UnsupportedOperationException()
    }
}
