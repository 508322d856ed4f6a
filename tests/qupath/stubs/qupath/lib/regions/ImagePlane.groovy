package qupath.lib.regions

class ImagePlane {
    static getDefaultPlane() { null }
}
