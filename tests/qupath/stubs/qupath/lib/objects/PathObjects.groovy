package qupath.lib.objects

class PathObjects {
    static createAnnotationObject(roi, pathClass) { new StubAnnotation(roi, pathClass) }
}

class StubAnnotation {
    def roi, pathClass

    StubAnnotation(roi, pathClass) { this.roi = roi; this.pathClass = pathClass }
    def getROI() { roi }
    def getPathClass() { pathClass }
}
